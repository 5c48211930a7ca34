"""C of a traced recipe: which statements an operation of torch becomes. What C cannot have is an error that names the layer."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

from sb3_distill.exporting.c_code import Code
from sb3_distill.exporting.c_values import Value

#: of one number, which is {0}; {t} is the type of what comes of it. What is NaN stays so
UNARY = {
    "relu": "{0} <= 0 ? 0 : {0}",
    "neg": "-{0}",
    "abs": "fabs{s}({0})",
    "tanh": "tanh{s}({0})",
    "exp": "exp{s}({0})",
    "log": "log{s}({0})",
    "sqrt": "sqrt{s}({0})",
    "rsqrt": "1 / sqrt{s}({0})",
    "sin": "sin{s}({0})",
    "cos": "cos{s}({0})",
    "floor": "floor{s}({0})",
    "round": "rint{s}({0})",  # halves go to the even number, as torch's do
    "sigmoid": "1 / (1 + exp{s}(-{0}))",
    "silu": "{0} / (1 + exp{s}(-{0}))",
    "logical_not": "!{0}",
    "reciprocal": "({t})1 / {0}",
}
#: of two numbers
BINARY = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "({t}){0} / {1}",  # whole numbers divide into others
    "maximum": "{0} <= {1} ? {1} : {0}",
    "minimum": "{0} >= {1} ? {1} : {0}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}",
}
#: operations that change where numbers are looked for, and no number
VIEWS = {
    *(
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "select",
        "slice",
        "expand",
    ),
    *(
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "alias",
        "detach",
        "contiguous",
        "clone",
        "dropout",
        "broadcast_tensors",
    ),
    *("view_as", "expand_as", "narrow", "swapaxes", "numpy_T", "lift_fresh_copy", "detach_"),
}
IGNORED = {"_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_size"}


class Unsupported(ValueError):
    """An operation that C cannot have here."""


def translate(code: Code, program: th.export.ExportedProgram, inputs: list[Value]) -> list[Value | th.Tensor]:
    """
    :param code: is written to
    :param program: of a recipe, for a batch of one
    :param inputs: of it
    :return: its outputs
    :raises Unsupported: for an operation that C cannot have
    """
    known: dict[th.fx.Node, Any] = {}
    given = iter(inputs)
    stored = {**program.state_dict, **program.constants}
    names = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    needed = _needed(program.graph)
    result: Any = ()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            target = names[node.name]
            known[node] = stored[target] if target is not None else next(given)
        elif node.op == "output":
            result = node.args[0]
        elif node.op == "get_attr":
            known[node] = operator.attrgetter(str(node.target))(program.graph_module)
        elif node in needed:
            known[node] = _operation(code, node, known)
    return [known[node] for node in result]


def _needed(graph: th.fx.Graph) -> set[th.fx.Node]:
    """What the outputs depend on: a critic, and a standard deviation, are not among it."""
    found: set[th.fx.Node] = set()
    left = [node for node in graph.nodes if node.op == "output"]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found


def _operation(code: Code, node: th.fx.Node, known: dict[th.fx.Node, Any]) -> Any:
    args: Any
    kwargs: Any
    args, kwargs = th.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)  # type: ignore[misc]
    target: Any = node.target
    if target is operator.getitem:
        return args[0][args[1]]
    if not any(isinstance(arg, Value) for arg in _flat((args, kwargs))):
        return target(*args, **kwargs)  # of weights alone: it is computed now
    name = str(getattr(target, "__name__", target)).split(".")[0].rstrip("_")
    if isinstance(target, th._ops.OpOverload):
        name = target._schema.name.removeprefix("aten::")
        args, kwargs = _bound(target, args, kwargs), {}
    try:
        return _one(code, name, target, args, node)
    except Unsupported:
        raise
    except (KeyError, AssertionError, TypeError, NotImplementedError, IndexError, AttributeError, ValueError) as error:
        raise Unsupported(_complaint(node, name, str(error))) from error


def _bound(target: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    found = {}
    for position, argument in enumerate(target._schema.arguments):
        if position < len(args):
            found[argument.name] = args[position]
        elif argument.name in kwargs:
            found[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            found[argument.name] = argument.default_value
    return found


def _flat(given: Any) -> list[Any]:
    if isinstance(given, (list, tuple)):
        return [item for part in given for item in _flat(part)]
    return [item for part in given.values() for item in _flat(part)] if isinstance(given, dict) else [given]


def _complaint(node: th.fx.Node, name: str, why: str = "") -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    layer = str(path).replace("L['self'].", "").removeprefix("policy.") or "the policy"
    kind = str(kind).rpartition(".")[2].strip("'>")
    reason = f" ({why})" if why else ""
    return (
        f"C cannot have the operation {name!r} of the layer {layer} ({kind}){reason}: export to 'onnx' or 'torchscript', or use a "
        "network of fully connected layers, convolutions and the usual activations."
    )


def _one(code: Code, name: str, target: Any, given: dict[str, Any], node: th.fx.Node) -> Any:
    if name in IGNORED:
        return None
    if name in VIEWS:
        return _view(code, name, target, given)
    rule = RULES.get(name)
    if rule is not None:
        return rule(code, given, node)
    if name in UNARY:
        return code.elementwise(UNARY[name], [given["self"]], _dtype(node))
    if name in BINARY:
        if given.get("alpha", 1) != 1 or given.get("rounding_mode") is not None:
            raise Unsupported(_complaint(node, name))
        return code.elementwise(BINARY[name], _operands(code, [given["self"], given["other"]], node), _dtype(node))
    raise Unsupported(_complaint(node, name))


def _dtype(node: th.fx.Node) -> th.dtype:
    return node.meta["val"].dtype  # type: ignore[no-any-return]


def _operands(code: Code, values: list[Any], node: th.fx.Node) -> list[Value]:
    """Numbers and tensors that are known become constants, of the dtype that torch computes with."""
    dtypes = [v.dtype for v in values if isinstance(v, Value)]
    real = next((d for d in (th.float64, th.float32) if d in dtypes), dtypes[0])
    found = []
    for value in values:
        if isinstance(value, (bool, int, float)):
            dtype = real if real.is_floating_point or not isinstance(value, float) else th.float32
            value = th.tensor(value, dtype=dtype)
        found.append(code.constant(value) if isinstance(value, th.Tensor) else value)
    return found


def _view(code: Code, name: str, target: Any, given: dict[str, Any]) -> Any:
    if name == "broadcast_tensors":
        tensors = [t if isinstance(t, Value) else code.constant(t) for t in given["tensors"]]
        places = th.broadcast_tensors(*(t.places for t in tensors))
        return [Value(t.buffer, p, t.dtype) for t, p in zip(tensors, places, strict=True)]
    first = "self" if "self" in given else "input"
    value: Value = given[first]
    if name in ("alias", "detach", "contiguous", "clone", "dropout", "lift_fresh_copy", "detach_"):
        return value
    moved = target(*[value.places if key == first else arg for key, arg in given.items()])
    if isinstance(moved, (list, tuple)):
        return [Value(value.buffer, part, value.dtype) for part in moved]
    return Value(value.buffer, moved, value.dtype)


def _clamp(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    value = given["self"]
    for bound, kind in ((given.get("min"), "maximum"), (given.get("max"), "minimum")):
        if bound is not None:
            value = code.elementwise(BINARY[kind], _operands(code, [value, bound], node), _dtype(node))
    return value  # type: ignore[no-any-return]


def _linear(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    return code.linear(given["input"], _weight(given["weight"], node), given.get("bias"))


def _weight(weight: Any, node: th.fx.Node) -> th.Tensor:
    if not isinstance(weight, th.Tensor):
        raise Unsupported(_complaint(node, "matmul", "of two things that are computed"))
    _check_single(node, "linear")
    return weight


def _check_single(node: th.fx.Node, name: str) -> None:
    """:raises Unsupported: for a layer that computes in another precision than C's layers do"""
    if _dtype(node) != th.float32:
        raise Unsupported(_complaint(node, name, f"in {_dtype(node)}, and C's layers compute in torch.float32"))


def _addmm(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    if given.get("alpha", 1) != 1 or given.get("beta", 1) != 1:
        raise Unsupported(_complaint(node, "addmm"))
    return code.linear(given["mat1"], _weight(given["mat2"], node).T, given["self"])


def _matmul(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    other = given["other"] if "other" in given else given["mat2"]
    return code.linear(given["self"], _weight(other, node).T, None)


def _conv2d(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    _check_single(node, "conv2d")
    if given["groups"] != 1 or any(d != 1 for d in given["dilation"]) or isinstance(given["padding"], str):
        raise Unsupported(_complaint(node, "conv2d", "with groups, dilation or padding by name"))
    return code.conv2d(
        given["input"], _weight(given["weight"], node), given.get("bias"), given["stride"], given["padding"]
    )


def _softmax(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    value, axis = given["self"], given["dim"]
    shifted = code.elementwise("{0} - {1}", [value, code.reduce("max", value, [axis], True, value.dtype)], value.dtype)
    powers = code.elementwise(UNARY["exp"], [shifted], value.dtype)
    total = code.reduce("sum", powers, [axis], True, value.dtype)
    return code.elementwise("{0} / {1}", [powers, total], value.dtype)


def _log_softmax(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    value, axis = given["self"], given["dim"]
    total = _logsumexp(code, {"self": value, "dim": [axis], "keepdim": True}, node)
    return code.elementwise("{0} - {1}", [value, total], value.dtype)


def _logsumexp(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    value, axes = given["self"], list(given["dim"])
    most = code.reduce("max", value, axes, True, value.dtype)
    shifted = code.elementwise("{0} - {1}", [value, most], value.dtype)
    total = code.reduce("sum", code.elementwise(UNARY["exp"], [shifted], value.dtype), axes, True, value.dtype)
    found = code.elementwise("logf({0}) + {1}", [total, most], value.dtype)
    return (
        found
        if given.get("keepdim")
        else Value(found.buffer, found.places.reshape(node.meta["val"].shape), found.dtype)
    )


def _mean(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    value = given["self"]
    axes = list(given.get("dim") or range(len(value.shape)))
    n = int(np.prod([value.shape[axis] for axis in axes]))
    total = code.reduce("sum", value, axes, bool(given.get("keepdim")), _dtype(node))
    return code.elementwise(f"{{0}} / {n}", [total], _dtype(node))


def _one_hot(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    n = given["num_classes"]
    wide = Value(given["self"].buffer, given["self"].places.unsqueeze(-1), given["self"].dtype)
    return code.elementwise("{0} == {1}", [wide, code.constant(th.arange(n))], th.int64)


def _where(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    values = _operands(code, [given["condition"], given["self"], given["other"]], node)
    return code.elementwise("{0} ? {1} : {2}", values, _dtype(node))


def _elu(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    a, scale, inner = (float(given[name]) for name in ("alpha", "scale", "input_scale"))
    return code.elementwise(
        f"{{0}} > 0 ? {scale!r}f * {{0}} : {a * scale!r}f * (expf({{0}} * {inner!r}f) - 1)",
        [given["self"]],
        _dtype(node),
    )


def _leaky_relu(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    slope = float(given["negative_slope"])
    return code.elementwise(f"{{0}} > 0 ? {{0}} : {slope!r}f * {{0}}", [given["self"]], _dtype(node))


def _gelu(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    if given["approximate"] != "none":
        raise Unsupported(_complaint(node, "gelu", "by tanh"))
    return code.elementwise("0.5f * {0} * (1 + erff({0} * 0.70710678118654752f))", [given["self"]], _dtype(node))


def _softplus(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    beta, most = float(given["beta"]), float(given["threshold"])
    return code.elementwise(
        f"{{0}} * {beta!r}f > {most!r}f ? {{0}} : log1pf(expf({{0}} * {beta!r}f)) / {beta!r}f",
        [given["self"]],
        _dtype(node),
    )


def _power(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    if given["exponent"] != 2:
        raise Unsupported(_complaint(node, "pow", f"with the exponent {given['exponent']}"))
    return code.elementwise("{0} * {0}", [given["self"]], _dtype(node))


def _layer_norm(code: Code, given: dict[str, Any], node: th.fx.Node) -> Value:
    value, axes = given["input"], [-k - 1 for k in range(len(given["normalized_shape"]))]
    n = int(np.prod(given["normalized_shape"]))
    mean = code.elementwise(f"{{0}} / {n}", [code.reduce("sum", value, axes, True, value.dtype)], value.dtype)
    centred = code.elementwise("{0} - {1}", [value, mean], value.dtype)
    squares = code.reduce("sum", code.elementwise("{0} * {0}", [centred], value.dtype), axes, True, value.dtype)
    found = code.elementwise(f"{{0}} / sqrtf({{1}} / {n} + {given['eps']!r}f)", [centred, squares], value.dtype)
    for name, kind in (("weight", "mul"), ("bias", "add")):
        if given.get(name) is not None:
            found = code.elementwise(BINARY[kind], [found, code.constant(given[name])], value.dtype)
    return found


def _axes(given: dict[str, Any]) -> list[int]:
    axes = given.get("dim")
    return [axes] if isinstance(axes, int) else list(axes or [])


#: operations that are more than an expression
RULES: dict[str, Callable[[Code, dict[str, Any], th.fx.Node], Any]] = {
    "linear": _linear,
    "addmm": _addmm,
    "mm": _matmul,
    "matmul": _matmul,
    "conv2d": _conv2d,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "hardtanh": lambda code, given, node: _clamp(
        code, {"self": given["self"], "min": given["min_val"], "max": given["max_val"]}, node
    ),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "mean": _mean,
    "sum": lambda code, given, node: code.reduce(
        "sum", given["self"], _axes(given), bool(given.get("keepdim")), _dtype(node)
    ),
    "amax": lambda code, given, node: code.reduce(
        "max", given["self"], _axes(given), bool(given.get("keepdim")), _dtype(node)
    ),
    "argmax": lambda code, given, node: code.argmax(given["self"], given.get("dim"), bool(given.get("keepdim"))),
    "one_hot": _one_hot,
    "where": _where,
    "cat": lambda code, given, node: code.join(_operands(code, list(given["tensors"]), node), given["dim"]),
    "stack": lambda code, given, node: code.join(
        [
            Value(v.buffer, v.places.unsqueeze(given["dim"]), v.dtype)
            for v in _operands(code, list(given["tensors"]), node)
        ],
        given["dim"],
    ),
    "to": lambda code, given, node: (
        given["self"] if given["self"].dtype == _dtype(node) else code.elementwise("{0}", [given["self"]], _dtype(node))
    ),
    "zeros_like": lambda code, given, node: th.zeros(given["self"].shape, dtype=_dtype(node)),
    "ones_like": lambda code, given, node: th.ones(given["self"].shape, dtype=_dtype(node)),
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "softplus": _softplus,
    "pow": _power,
    "rsub": lambda code, given, node: code.elementwise(
        BINARY["sub"], _operands(code, [given["other"], given["self"]], node), _dtype(node)
    ),
    "layer_norm": _layer_norm,
}
RULES["_to_copy"] = RULES["to"]
