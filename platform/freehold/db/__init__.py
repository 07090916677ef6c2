"""What every table shares: base models, row-level security, encrypted fields, publication versions."""
