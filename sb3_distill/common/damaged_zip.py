"""What reading a zip, or arrays of NumPy in one, raises where the file is damaged or hostile."""

import lzma
import struct
import tokenize
import zipfile
import zlib

#: A bit that has turned may ask for a password (RuntimeError), a version or a compression that there is not (NotImplementedError), an
#: array of any size (MemoryError, OverflowError), or a header that is no Python (SyntaxError, TokenError).
DAMAGED_ZIP: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    RuntimeError,  # NotImplementedError and RecursionError are such
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    MemoryError,
    SyntaxError,
)
#: the same, where it does not matter whether there is a file
UNREADABLE_ZIP: tuple[type[Exception], ...] = (OSError, *DAMAGED_ZIP)
