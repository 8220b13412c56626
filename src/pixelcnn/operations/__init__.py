"""The operations that networks are made of, one module each, and the full view that computes them for whole images."""

from pixelcnn.operations.activation import Activation
from pixelcnn.operations.attention import Attention
from pixelcnn.operations.base import IMAGE, Node, Operation, Part, Pointwise, View
from pixelcnn.operations.concat import Concat
from pixelcnn.operations.concat_elu import ConcatELU
from pixelcnn.operations.condition import Condition, condition_term
from pixelcnn.operations.condition_map import ConditionMap
from pixelcnn.operations.conv import Conv
from pixelcnn.operations.gates import GLU, Gate
from pixelcnn.operations.norm import Norm
from pixelcnn.operations.position import Position
from pixelcnn.operations.scale import FeatureScale, Scale
from pixelcnn.operations.sum import Sum
from pixelcnn.operations.upsample import Upsample
from pixelcnn.operations.view import ExactView, FullView

__all__ = [
    "GLU",
    "IMAGE",
    "Activation",
    "Attention",
    "Concat",
    "ConcatELU",
    "Condition",
    "ConditionMap",
    "Conv",
    "ExactView",
    "FeatureScale",
    "FullView",
    "Gate",
    "Node",
    "Norm",
    "Operation",
    "Part",
    "Pointwise",
    "Position",
    "Scale",
    "Sum",
    "Upsample",
    "View",
    "condition_term",
]
