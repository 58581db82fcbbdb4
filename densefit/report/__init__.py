"""Pictures and figures about a finished fit."""
