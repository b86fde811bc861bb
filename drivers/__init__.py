"""One file or folder for each way of reaching hardware."""
