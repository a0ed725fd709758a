"""How recipes are read: YAML, the packaged recipes they extend, and what is said of a mistake in one."""
