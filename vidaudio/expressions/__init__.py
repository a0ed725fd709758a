"""A small language of expressions over the columns of clips, such as `not silent and seconds >= 4`.

Expressions are stored in corpora and packs, and a corpus may come from a stranger. So neither Python nor pandas
evaluates anything here. A text becomes tokens, and the tokens become a tree of a dozen kinds of nodes. Every node is
checked against the kinds of the columns, and the tree is evaluated over Arrow and NumPy columns. Only what the grammar
contains can be expressed. The length of a text, the depth and number of its nodes and the size of its constants are
bounded.
"""

from vidaudio.expressions.errors import ExpressionError
from vidaudio.expressions.expression import Expression
from vidaudio.expressions.kinds import Kind, kind_of

__all__ = ["Expression", "ExpressionError", "Kind", "kind_of"]
