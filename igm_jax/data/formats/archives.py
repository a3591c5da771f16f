"""What the readers of ZIP archives share."""

import zipfile
import zlib

# Errors of zipfile for a damaged, encrypted or unknown entry.
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
