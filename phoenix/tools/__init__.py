"""What agents' tools may do: permission rules, evaluated without any input or output."""
