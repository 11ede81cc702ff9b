"""MySQL and MariaDB servers, with our own engine."""
