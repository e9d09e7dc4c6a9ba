"""What is compared: one benchmark a file."""
