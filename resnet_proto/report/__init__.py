"""What a net looks like: tables."""
