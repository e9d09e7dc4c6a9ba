"""Guards of a service: what they cost honest clients, what they cost thieves, and whom they suspect."""
