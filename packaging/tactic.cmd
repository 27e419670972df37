@"%~dp0tactic-codec.exe" %*
