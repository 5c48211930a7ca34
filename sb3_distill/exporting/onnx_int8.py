"""ONNX with weights of eight bits: whole numbers and a scale for each row, which the file itself multiplies.

What layers compute stays float32. With activations of eight bits too, as ONNX Runtime's static quantisation has them, the RL Zoo's DQN of
LunarLander had another greedy action in 58% of the states of its play, and with these weights alone in 11%.
"""

from typing import TYPE_CHECKING

from sb3_distill.exporting.eight_bits import whole_numbers

if TYPE_CHECKING:
    import onnx

#: operations with weights, with the axis of a row
LAYERS = {"Gemm": 1, "MatMul": 1, "Conv": 0}


def with_eight_bits(model: "onnx.ModelProto") -> None:
    """
    :param model: changed: the weights of its layers are whole numbers of eight bits
    """
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type not in LAYERS or node.input[1] not in stored:
            continue
        name = node.input[1]
        weights = numpy_helper.to_array(stored.pop(name))
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axis = 0 if transposed else LAYERS[node.op_type]
        found = whole_numbers(weights, axis)
        if found is None:
            continue
        whole, scale = found
        tensors = [numpy_helper.from_array(whole, f"{name}_int8"), numpy_helper.from_array(scale, f"{name}_scale")]
        model.graph.initializer.remove(next(tensor for tensor in model.graph.initializer if tensor.name == name))
        model.graph.initializer.extend(tensors)
        multiply = helper.make_node("DequantizeLinear", [tensor.name for tensor in tensors], [name], axis=axis)
        model.graph.node.insert(list(model.graph.node).index(node), multiply)
