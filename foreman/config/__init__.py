"""The settings: one table that is read, checked and documented. Touches nothing but the mapping it is given."""

from __future__ import annotations

from foreman.config.help import settings_help
from foreman.config.kinds import Address
from foreman.config.row import Setting
from foreman.config.settings import SETTINGS, Settings
from foreman.config.unknown import UnknownVariable, unknown_variables

__all__ = ["SETTINGS", "Address", "Setting", "Settings", "UnknownVariable", "settings_help", "unknown_variables"]
