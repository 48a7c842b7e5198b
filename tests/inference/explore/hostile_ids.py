"""An id that would do harm where it were not taken for text."""

HOSTILE = """</script><script>alert("1")</script><img src=x onerror='alert(2)'>&<b>"""
EVENTS = 680
"""Events that the run with such an id knows; those of the source `late` come after them."""
