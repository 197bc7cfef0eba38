"""What runs in the child: programs, trainer, mesh, checkpoints and evaluation."""
