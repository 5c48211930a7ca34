"""What an exported file may be."""

#: formats, with the suffixes that mean them; the first is the usual one
FORMATS: dict[str, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "torchscript": (".pt", ".ts", ".pth", ".jit"),
    "c": (".h", ".hpp"),
}
