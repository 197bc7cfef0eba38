"""Plans a study in its workdir: which runs are left, in which packs and layouts."""
