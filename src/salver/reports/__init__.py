"""What any report needs, whatever it is about: for a terminal, as a page, and pictures in it."""
