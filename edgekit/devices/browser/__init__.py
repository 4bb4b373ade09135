"""A bundle in the browser of a phone: a page on the local network that checks, measures and shows it."""

from edgekit.devices.browser.server import PhoneServer, Settings

__all__ = ["PhoneServer", "Settings"]
