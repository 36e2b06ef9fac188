#!/bin/bash
# Trains on two nodes with four GPUs each under SLURM. If it is started again, it resumes from the last checkpoint.
#   sbatch configs/slurm.sh configs/cc3m_vitb16.yaml
#SBATCH --job-name=pacl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before the time limit, SLURM sends TERM and the run saves a checkpoint and exits. After the failure of a
# node, --requeue starts it again.

CONFIG=${1:-configs/cc3m_vitb16.yaml}
OUT=${2:-runs/$(basename "$CONFIG" .yaml)}
[ -f "$OUT/checkpoints/last.ckpt" ] && RESUME=(--ckpt_path last) || RESUME=()

srun python -m pacl.train --config "$CONFIG" --out "$OUT" "${RESUME[@]}" \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices 4 --trainer.strategy ddp

# Without SLURM, run this on each node, with NODE_RANK 0 and 1:
#   torchrun --nnodes 2 --nproc_per_node 4 --node_rank $NODE_RANK --master_addr FIRST_NODE --master_port 29500 \
#     -m pacl.train --config configs/cc3m_vitb16.yaml --trainer.num_nodes 2 --trainer.devices 4 --trainer.strategy ddp
