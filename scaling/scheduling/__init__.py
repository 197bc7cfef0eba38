"""What is left to do: packs, layouts, progress and the preflight."""
