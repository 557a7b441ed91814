"""What is run: the command line `mtsql`, one YAML per experiment, benchmarks, cluster manifests."""
