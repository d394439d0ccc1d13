"""How a hospital joins a federation: its own keys, the request, the kit. Private keys never travel.

request = initialise(home, "north", courier)              # the hospital's officer sends this file
checked = check_kit(home, courier, kit, heard="3f2a ...", now=utc_now())
join(home, courier, checked, by="Dr Ito")
"""

from fedloupe_client.joining.installed import Installed, finish, installed
from fedloupe_client.joining.joining import Checked, check_kit, join
from fedloupe_client.joining.keys import courier_folder, initialise

__all__ = ["Checked", "Installed", "check_kit", "courier_folder", "finish", "initialise", "installed", "join"]
