"""What `mtsql prm bench` does."""
