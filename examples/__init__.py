"""What Coatcheck looks like in use."""
