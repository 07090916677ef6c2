"""The catalog: open-weight models that the operator offers, from a YAML file that the operator curates."""
