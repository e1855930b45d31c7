"""Where models come from (shell): their config.json, and from it the facts that sizing needs."""
