"""The Hugging Face Hub's protocol over the registry, so that existing tools work with HF_ENDPOINT and HF_TOKEN set."""
