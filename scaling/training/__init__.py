"""Training in the child process: programs, trainer, mesh, checkpoints, evaluation."""
