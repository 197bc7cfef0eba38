"""Pictures that a study's runs made from the same noises: read, and compared."""
