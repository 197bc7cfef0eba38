"""All laws of one target, fitted to the same runs under the same draws."""
