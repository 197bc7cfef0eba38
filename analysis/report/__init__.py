"""The report: its page, figures, sentences and checklist."""
