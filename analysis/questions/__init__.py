"""What readers want to know, one question a file."""
