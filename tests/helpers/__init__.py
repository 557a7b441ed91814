"""What tests share: small databases, messages, steps, whole runs."""
