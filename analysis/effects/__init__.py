"""What swaps do to the loss: on fitted surfaces, on matched cells, along compute."""
