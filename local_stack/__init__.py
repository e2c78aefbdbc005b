"""Everything on one machine without Docker: private servers, and the services on top of them."""
