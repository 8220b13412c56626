"""Images that one thread draws, as `engine.c` reads them."""

from __future__ import annotations

import ctypes

__all__ = ["Share"]


class Share(ctypes.Structure):
    """`struct share` of engine.c."""

    _fields_ = [
        ("arena", ctypes.c_void_p),
        ("images", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("n", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("root", ctypes.c_uint64),
        ("temperature", ctypes.c_double),
        ("guidance", ctypes.c_double),
        ("known", ctypes.c_void_p),
        ("evidence", ctypes.c_void_p),
        ("team", ctypes.c_void_p),
    ]
