"""One file per command of `mtsql`: its arguments and what it does with them."""
