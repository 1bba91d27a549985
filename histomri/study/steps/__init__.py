"""The bodies of the steps: each loads what its options name, calls a room, and saves. One file per command."""
