"""The proof that the kernel blocks just what was ordered: shares no code with what renders the orders.

`proof.prove` is the way in. It needs the policies and what the kernel returned, nothing else.
"""
