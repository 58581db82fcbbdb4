"""scipy's BLAS does a banded factorization on one thread."""

from densefit.fit import blas


def test_one_thread_within_and_as_many_as_before_after():
    found = blas._thread_count()
    if found is None:  # another library than OpenBLAS
        return
    count, use = found
    before = count()
    try:
        use(2)
        with blas.one_thread():
            assert count() == 1
        assert count() == 2
    finally:
        use(before)
