"""Settings by the place where the code runs: onebox (`make up`), production (Helm), test. All from the environment."""
