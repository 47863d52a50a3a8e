"""The studies: questions about mappers and map spaces, each answered with tables and a picture."""
