"""DLPack capsules: read as they are, crafted as a check needs them, in memory that shows misuse."""
