"""What libraries log while a command runs."""

from __future__ import annotations

from absl import flags, logging


def libraries() -> None:
    """Lets libraries say warnings and errors alone. To be called before `app.run`."""
    # Assigned, since absl takes a mere default for INFO.
    flags.FLAGS["verbosity"].value = logging.WARNING
    flags.FLAGS["verbosity"].using_default_value = False
