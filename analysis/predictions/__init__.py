"""What runs predicted at a study's probe positions: read, compared, averaged."""
