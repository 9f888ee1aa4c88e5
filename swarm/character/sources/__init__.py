"""Where a character comes from, a file for each kind. Each reads a document (a mapping) and judges nothing."""
