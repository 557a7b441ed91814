"""SQL run as an agent's SQL is run: the answers, and how a terminal shows them."""
