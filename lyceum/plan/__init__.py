"""What a Run will cost before it starts: FLOPs, memory by phase, time, energy and money; and how right that was."""
