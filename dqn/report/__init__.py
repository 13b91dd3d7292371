"""What is made of finished runs: statistics, tables and pictures."""
