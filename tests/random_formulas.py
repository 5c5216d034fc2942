"""Random formulas, as text that Python and gradfit read alike."""

from hypothesis import strategies as st


def expressions(
    leaves: list[str], *, functions: list[str], smooth: bool = False, most: int = 12
) -> st.SearchStrategy[str]:
    """Expressions of our grammar, with random blanks and needless brackets; smooth ones have no steps and no bends."""
    blank = st.sampled_from(["", " ", "  "])
    signs = st.sampled_from(["+", "-", "*", "/", "**"])

    def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        kinds = [
            st.builds("{1}{0}{2}{0}{3}".format, blank, inner, signs, inner),
            st.builds("{1}{0}*{0}{2}".format, blank, inner, inner),
            st.builds("({0}{1}{0})".format, blank, inner),
            st.builds("{1}{0}{2}".format, blank, st.sampled_from("-+"), inner),
            st.builds("{1}({0}{2})".format, blank, st.sampled_from(functions), inner),
        ]
        if not smooth:
            compare = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
            kinds += [
                st.builds("{1}({2},{0}{3})".format, blank, st.sampled_from(["min", "max"]), inner, inner),
                st.builds("where({0} {1} {2}, {3}, {4})".format, inner, compare, inner, inner, inner),
            ]
        return st.one_of(kinds)

    return st.recursive(st.sampled_from(leaves), wider, max_leaves=most)
