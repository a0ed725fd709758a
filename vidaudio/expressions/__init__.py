"""Expressions over the columns of clips, such as `not silent and seconds >= 4`: a small language of its own.

Expressions are stored in corpora and packs, and a corpus may come from a stranger. So nothing here is evaluated by
Python or pandas: a text becomes tokens, the tokens become a tree of a dozen kinds of nodes, every node is checked
against the kinds of the columns, and the tree is evaluated over Arrow and NumPy columns. What the grammar does not have
cannot be said in it, and the length of a text, the depth and number of its nodes and the size of its constants are
bounded.
"""

from vidaudio.expressions.errors import ExpressionError
from vidaudio.expressions.expression import Expression
from vidaudio.expressions.kinds import Kind, kind_of

__all__ = ["Expression", "ExpressionError", "Kind", "kind_of"]
