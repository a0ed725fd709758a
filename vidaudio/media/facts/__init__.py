"""Facts that are measured of a clip while it is decoded: of its sound, of its pictures, and of its motion."""
